package scenario

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func TestDoor(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "inside") }))
	t.Cleanup(server.Close)
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: strings.Replace(server.URL, "http:", "https:", 1)}
	if err := clientcmd.WriteToFile(*config, from); err != nil {
		t.Fatal(err)
	}
	d, err := newDoor(t.Context(), from, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.shut)
	written, err := clientcmd.LoadFromFile(to)
	if err != nil || written.Clusters["c"].Server != "https://"+d.addr {
		t.Errorf("the kubeconfig does not lead to the door: %v, %v", written, err)
	}
	client := &http.Client{Transport: &http.Transport{}} // connections of its own, so that none is left from before
	passes := func() bool {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			return false
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return err == nil && string(body) == "inside"
	}
	for _, want := range []bool{true, false, true} {
		if got := passes(); got != want {
			t.Errorf("a request passes: %t, want %t", got, want)
		}
		if want {
			d.shut()
		} else if err := d.open(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
