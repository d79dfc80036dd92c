package controlplane

import (
	"fmt"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// adminGroup is the group that the API server lets do everything.
const adminGroup = "system:masters"

// IssueKubeconfig writes a kubeconfig for a user of the given groups, with a
// client certificate of the cluster's own authority, and returns its path. What
// the user may do is a matter of RBAC; without any binding: next to nothing.
func (c *Cluster) IssueKubeconfig(user string, groups ...string) (string, error) {
	pair, err := c.ca.issue(user, groups)
	if err != nil {
		return "", fmt.Errorf("issue kubeconfig: %w", err)
	}
	name := c.options.Name
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   fmt.Sprintf("https://127.0.0.1:%d", c.ports.apiServer),
		CertificateAuthorityData: c.ca.certPEM(),
	}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: user}
	config.CurrentContext = name

	path := filepath.Join(c.dir, fileName(user)+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("write kubeconfig of %s: %w", user, err)
	}
	return path, nil
}

// fileName makes a user's name, such as system:kube-scheduler, fit for a file.
func fileName(user string) string {
	name := []rune(user)
	for i, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.':
		default:
			name[i] = '-'
		}
	}
	return string(name)
}
