package deploytest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/drydock/drydock/testbed/controlplane"
	"github.com/drydock/drydock/testbed/fault"
)

// block is a fenced block of a page: its language and its text.
var block = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// mayFail matches what answers by its exit code: a carrier that is not healthy ends in 1 or 3, and a refusal is what is asked for.
var mayFail = regexp.MustCompile(`^(drydock (diagnose|plan) |kubectl .*--dry-run=server)`)

// TestCarriersPage runs docs/carriers.md from its first block to its last: YAML is drydock.yaml, sh is run.
func TestCarriersPage(t *testing.T) {
	dir := workplace(t)
	ctx, client := setup(t)
	if err := policy(); err != nil { // the other tests' list is there first, and the page's comes over it
		t.Fatal(err)
	}
	for _, ns := range []string{"monitoring", "ibm-system", "kubx-masters"} {
		namespace(t, ctx, ns)
	}
	if _, err := fault.CreateDaemonSet(ctx, client, fault.Agent{Namespace: "monitoring", Name: "node-exporter",
		Edit: func(set *appsv1.DaemonSet) {
			p := &set.Spec.Template.Spec
			p.HostNetwork, p.HostPID = true, true
			p.Volumes = []corev1.Volume{{Name: "root", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		}}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/carriers.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, b := range block.FindAllStringSubmatch(string(page), -1) {
		if b[1] == "yaml" {
			if err := os.WriteFile(filepath.Join(dir, "drydock.yaml"), []byte(b[2]), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		for line := range strings.Lines(b[2]) {
			commands++
			out := command(t, ctx, dir, strings.TrimSpace(line))
			if strings.Contains(line, "--dry-run=server") && !strings.Contains(out, `"node-exporter" already exists`) {
				t.Errorf("the listed DaemonSet does not pass:\n%s", out)
			}
		}
	}
	if commands < 10 {
		t.Errorf("the page has %d commands", commands)
	}
	content, err := os.ReadFile(filepath.Join(dir, "carriers", "dal10-carrier3-actor.yaml"))
	if err != nil || strings.Contains(string(content), "client-key") || strings.Contains(string(content), "client-certificate") {
		t.Errorf("the actor's kubeconfig has the administrator's credentials: %v\n%s", err, content)
	}
	// As the page says: the actor that it makes may cordon with the mark, and not without.
	if _, err := client.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "carriers-page"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "carriers", "dal10-carrier3-actor.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	actor, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := patchNode("carriers-page", `{"spec":{"unschedulable":true}}`)(ctx, actor); err == nil || !strings.Contains(err.Error(), "only with its mark") {
		t.Errorf("a cordon without the mark: %v", err)
	}
	if err := patchNode("carriers-page", `{"metadata":{"annotations":{"drydock.dev/cordon-owner":"{}"}},"spec":{"unschedulable":true}}`)(ctx, actor); err != nil {
		t.Errorf("a cordon with the mark: %v", err)
	}
}

// drydock is the product's binary, as it is in this repository.
var drydock = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "drydock-deploytest-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "drydock")
	build := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", binary, "./cmd/drydock")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build drydock: %w\n%s", err, out)
	}
	return binary, nil
})

// workplace is a directory with what the page's commands take: the repository's deploy, a place for kubeconfigs, and kubectl and
// drydock on the PATH.
func workplace(t *testing.T) string {
	t.Helper()
	ctx := t.Context() // a build takes its time on a busy machine
	dir := t.TempDir()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	kubebox, err := controlplane.Kubebox(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"bin", "carriers"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "deploy"), filepath.Join(dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	kubectl := fmt.Sprintf("#!/bin/sh\nexec %q kubectl \"$@\"\n", kubebox)
	if err := os.WriteFile(filepath.Join(dir, "bin", "kubectl"), []byte(kubectl), 0o700); err != nil {
		t.Fatal(err)
	}
	binary, err := drydock()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(dir, "bin", "drydock")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command runs one line of the page, and returns what it wrote.
func command(t *testing.T, ctx context.Context, dir, line string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+line)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"), "HOME=" + dir, "KUBECONFIG=" + cluster.Kubeconfig()}
	out, err := cmd.CombinedOutput()
	if err != nil && !mayFail.MatchString(line) {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	if strings.HasPrefix(line, "drydock ") && strings.Contains(string(out), "is forbidden") {
		t.Errorf("%s: a right is missing:\n%s", line, out)
	}
	return string(out)
}
