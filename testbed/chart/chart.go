// Package chart renders and lints Drydock's Helm chart with Helm's own libraries, so that neither needs an installed helm.
package chart

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// Template renders the chart in dir as "helm template drydock -n drydock" does, with values over the chart's own.
func Template(dir string, values map[string]any) ([]byte, error) {
	chart, err := loader.LoadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("load chart: %w", err)
	}
	with, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: "drydock", Namespace: "drydock", Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, fmt.Errorf("read values: %w", err)
	}
	files, err := engine.Render(chart, with)
	if err != nil {
		return nil, fmt.Errorf("render chart: %w", err)
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var all bytes.Buffer
	for _, name := range names {
		text := strings.TrimSpace(files[name])
		if text == "" || filepath.Ext(name) != ".yaml" { // a file for helm's own use, or for the terminal
			continue
		}
		fmt.Fprintf(&all, "---\n%s\n", strings.TrimPrefix(text, "---\n"))
	}
	return all.Bytes(), nil
}

// Lint does what "helm lint --strict" does: a warning is an error.
func Lint(dir string) error {
	var errs []error
	for _, m := range lint.RunAll(dir, map[string]any{}, "drydock").Messages {
		errs = append(errs, m)
	}
	return errors.Join(errs...)
}
