package controlplane

import (
	"context"
	"fmt"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	return c.writeKubeconfig(user, &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key})
}

// ServiceAccountKubeconfig writes a kubeconfig with a token for a ServiceAccount that
// exists, good for an hour, and returns its path.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	issued, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return c.writeKubeconfig(namespace+"-"+name, &clientcmdapi.AuthInfo{Token: issued.Status.Token})
}

func (c *Cluster) writeKubeconfig(user string, credentials *clientcmdapi.AuthInfo) (string, error) {
	name := c.options.Name
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{
		Server:                   fmt.Sprintf("https://127.0.0.1:%d", c.ports.apiServer),
		CertificateAuthorityData: c.ca.certPEM(),
	}
	config.AuthInfos[user] = credentials
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
