// Package deploytest holds what deploy/ ships against a real API server, which is all of a control plane that it starts: the
// rights and the admission policy of carriers, the Helm chart and the plain manifests, and the commands of docs/carriers.md.
package deploytest
