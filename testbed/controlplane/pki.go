package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is how long certificates live: longer than any cluster here.
const validity = 365 * 24 * time.Hour

// authority is a certificate authority whose key never leaves this process.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  time.Time
}

// keyPair is a certificate and its key, PEM encoded.
type keyPair struct{ cert, key []byte }

func newAuthority(name string, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key of CA %s: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse CA %s: %w", name, err)
	}
	return &authority{cert: cert, key: key, now: now}, nil
}

func (a *authority) certPEM() []byte { return encodePEM("CERTIFICATE", a.cert.Raw) }

// issue signs a certificate for a user (Kubernetes reads the common name as the
// user and the organizations as its groups) that also serves on loopback.
func (a *authority) issue(user string, groups []string, names ...string) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("generate key of %s: %w", user, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return keyPair{}, fmt.Errorf("choose serial of %s: %w", user, err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: user, Organization: groups},
		NotBefore:    a.now.Add(-time.Hour),
		NotAfter:     a.now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:     append([]string{"localhost"}, names...),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(serviceIP)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign certificate of %s: %w", user, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return keyPair{}, fmt.Errorf("encode key of %s: %w", user, err)
	}
	return keyPair{cert: encodePEM("CERTIFICATE", der), key: keyPEM}, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return encodePEM("EC PRIVATE KEY", der), nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writePKI makes the cluster's authority and writes the files that the
// components' flags name into dir.
func writePKI(dir string, now time.Time) (*authority, error) {
	ca, err := newAuthority("testbed", now)
	if err != nil {
		return nil, err
	}
	frontProxy, err := newAuthority("testbed-front-proxy", now)
	if err != nil {
		return nil, err
	}
	apiServer, err := ca.issue(APIServer, nil, "kubernetes", "kubernetes.default", "kubernetes.default.svc")
	if err != nil {
		return nil, err
	}
	kubeletClient, err := ca.issue("kube-apiserver-kubelet-client", []string{adminGroup})
	if err != nil {
		return nil, err
	}
	kubelet, err := ca.issue("kwok", nil)
	if err != nil {
		return nil, err
	}
	serviceAccountKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate service account key: %w", err)
	}
	serviceAccount, err := encodeKey(serviceAccountKey)
	if err != nil {
		return nil, fmt.Errorf("encode service account key: %w", err)
	}
	files := map[string][]byte{
		"ca.crt":                       ca.certPEM(),
		"front-proxy-ca.crt":           frontProxy.certPEM(),
		"apiserver.crt":                apiServer.cert,
		"apiserver.key":                apiServer.key,
		"apiserver-kubelet-client.crt": kubeletClient.cert,
		"apiserver-kubelet-client.key": kubeletClient.key,
		"kubelet.crt":                  kubelet.cert,
		"kubelet.key":                  kubelet.key,
		"service-account.key":          serviceAccount,
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("write PKI: %w", err)
		}
	}
	return ca, nil
}
