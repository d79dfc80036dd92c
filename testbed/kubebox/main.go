// Command kubebox is a whole Kubernetes control plane in one binary: its first
// argument names the component to be, the rest are that component's own flags.
//
//	kubebox kube-apiserver --etcd-servers=http://127.0.0.1:2379 ...
//	kubebox kubectl --kubeconfig=... get nodes
//
// One binary, because the components share most of their packages: linked apart
// they are 418 MB, together 197 MB (measured with v1.37.2). One process per
// component, because components keep state per process (feature gates, signal
// handlers, metrics), and because only a process can be killed and restarted
// alone.
//
// It is a Go module of its own, so that neither the product nor the tests that
// talk to a control plane have to know Kubernetes' dependencies. Nothing imports
// it: package controlplane builds it and starts it as child processes.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // CronJobs with a time zone, on machines without zone files.

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go's metrics on /metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build information on /metrics
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

// components maps a first argument to the program that it runs. A program returns
// its exit code and reports its own errors on stderr.
var components = map[string]func() int{
	"etcd":                    etcd,
	"kube-apiserver":          func() int { return cli.Run(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() int { return cli.Run(controllermanager.NewControllerManagerCommand()) },
	"kube-scheduler":          func() int { return cli.Run(scheduler.NewSchedulerCommand()) },
	"kwok":                    kwok,
	"kwok-crds":               kwokCRDs,
	"kubectl":                 func() int { resetGlobalFlags(); return runKubectl(kubectl.NewDefaultKubectlCommand()) },
}

func main() {
	if len(os.Args) < 2 || components[os.Args[1]] == nil {
		var names []string
		for name := range components {
			names = append(names, name)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "usage: %s %s [flags]\n", filepath.Base(os.Args[0]), strings.Join(names, "|"))
		os.Exit(2)
	}
	component := os.Args[1]
	// Cobra and kwok both read os.Args, and name themselves by os.Args[0].
	os.Args = append([]string{component}, os.Args[2:]...)
	os.Exit(components[component]())
}

// resetGlobalFlags empties the process-wide flag set, in which the Kubernetes
// servers register a --version that is not a bool. Cobra programs that add a
// --version of their own would panic on it.
func resetGlobalFlags() {
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)
}

func runKubectl(command *cobra.Command) int {
	if err := cli.RunNoErrOutput(command); err != nil {
		// kubectl's subcommands print their errors and exit by themselves;
		// what arrives here is a usage error that cobra has not printed.
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	return 0
}
