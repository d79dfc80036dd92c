// Package web holds the dashboard's templates, style and script, embedded in the binary: the pages work offline and
// load nothing from elsewhere.
package web

import (
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
)

//go:embed templates static
var files embed.FS

// Static are the files under /static: style, script and icon.
func Static() fs.FS {
	static, err := fs.Sub(files, "static")
	if err != nil { // the name is a constant
		panic(err)
	}
	return static
}

// Pages parses the templates; each page is the layout with the page's own main part. assets is the address below which Static is
// served. The error is a mistake in a template, which a test finds.
func Pages(funcs template.FuncMap, assets string) (map[string]*template.Template, error) {
	pages := map[string]*template.Template{}
	modules, err := fs.Glob(Static(), "*.js")
	if err != nil {
		return nil, fmt.Errorf("list the scripts: %w", err)
	}
	funcs = maps.Clone(funcs)
	funcs["asset"] = func(name string) string { return assets + name }
	// Named in the page, modules are fetched side by side, and not each when another turns out to import it.
	funcs["modules"] = func() []string { return modules }
	for _, name := range []string{"overview", "runs", "run", "carriers", "carrier", "diagnosis", "events", "audit", "login", "message", "docs"} {
		t, err := template.New("layout.html").Funcs(funcs).ParseFS(files, "templates/layout.html", "templates/parts.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("parse page %s: %w", name, err)
		}
		pages[name] = t
	}
	return pages, nil
}
