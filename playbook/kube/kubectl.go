package kube

import (
	"fmt"

	"k8s.io/client-go/tools/clientcmd"
)

// OpenContext opens a context of kubectl's own configuration, for a person at a terminal: the file that is named, else
// $KUBECONFIG, else ~/.kube/config; an empty contextName is the current one. It returns the context's name as well.
//
// Unlike a registry's kubeconfigs, these may run a program for their credentials: it is the caller's own file, and kubectl
// would run the same program.
func OpenContext(kubeconfig, contextName string, opts Options) (*Carrier, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	file, err := rules.Load()
	if err != nil {
		return nil, "", fmt.Errorf("read kubeconfig: %w", err)
	}
	if contextName == "" {
		contextName = file.CurrentContext
	}
	if _, ok := file.Contexts[contextName]; !ok {
		return nil, "", fmt.Errorf("kubectl's configuration (%s) has no context %q: it has %s", configFiles(rules), contextName, contextNames(file))
	}
	config, err := clientcmd.NewNonInteractiveClientConfig(*file, contextName, &clientcmd.ConfigOverrides{}, rules).ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("context %q: %w", contextName, err)
	}
	c, err := newCarrier(Entry{Name: contextName}, config, config, opts)
	if err != nil {
		return nil, "", fmt.Errorf("context %q: %w", contextName, err)
	}
	return c, contextName, nil
}

// configFiles names the files that were looked for.
func configFiles(rules *clientcmd.ClientConfigLoadingRules) string {
	if rules.ExplicitPath != "" {
		return rules.ExplicitPath
	}
	text := ""
	for i, f := range rules.Precedence {
		if i > 0 {
			text += ", "
		}
		text += f
	}
	return text
}
