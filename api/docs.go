package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"
)

// The page /docs is the specification, rendered here: it needs no script and loads nothing from elsewhere.

// docsPage is what the page shows.
type docsPage struct {
	page
	Title, Description string
	Groups             []docsGroup
	Schemas            []docsSchema
}

type docsGroup struct {
	Name, Description string
	Operations        []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary, Description, Role string
	Parameters                                   []docsField
	Body                                         docsType
	Responses                                    []docsResponse
}

type docsResponse struct {
	Status, Description string
	Body                docsType
	Problems            []string
}

type docsSchema struct {
	Name, Description string
	Type              docsType
	Fields            []docsField
}

type docsField struct {
	Name, In, Description string
	Required              bool
	Type                  docsType
}

// docsType is a type in words; Ref names the schema that it links to.
type docsType struct{ Text, Ref string }

// specJSON is as much of an OpenAPI document as the page shows.
type specJSON struct {
	Info       struct{ Title, Description string }
	Tags       []struct{ Name, Description string }
	Paths      yaml.MapSlice
	Components struct {
		Parameters map[string]specParameter
		Responses  map[string]specResponse
		Schemas    yaml.MapSlice
	}
}

type specOperation struct {
	OperationID string `yaml:"operationId"`
	Tags        []string
	Summary     string
	Description string
	Role        string `yaml:"x-role"`
	Parameters  []specParameter
	RequestBody struct{ Content specContent } `yaml:"requestBody"`
	Responses   map[string]specResponse
}

type specParameter struct {
	Ref         string `yaml:"$ref"`
	Name, In    string
	Description string
	Required    bool
	Schema      specSchema
}

type specResponse struct {
	Ref         string `yaml:"$ref"`
	Description string
	Problems    []string `yaml:"x-problems"`
	Content     specContent
}

type specContent map[string]struct{ Schema specSchema }

type specSchema struct {
	Ref         string `yaml:"$ref"`
	Type        any
	Format      string
	Description string
	Enum        []any
	Const       any
	Default     any
	Minimum     any
	Maximum     any
	Items       *specSchema
	AllOf       []specSchema `yaml:"allOf"`
	AnyOf       []specSchema `yaml:"anyOf"`
	Properties  yaml.MapSlice
	Required    []string
}

// describe reads the specification into what the page shows. The error is a mistake in the embedded file, which a test finds.
func describe(source []byte) (docsPage, error) {
	var spec specJSON
	if err := yaml.Unmarshal(source, &spec); err != nil {
		return docsPage{}, fmt.Errorf("read openapi.yaml: %w", err)
	}
	d := docsPage{Title: spec.Info.Title, Description: spec.Info.Description}
	for _, tag := range spec.Tags {
		d.Groups = append(d.Groups, docsGroup{Name: tag.Name, Description: tag.Description})
	}
	for _, path := range spec.Paths {
		if err := d.addPath(&spec, fmt.Sprint(path.Key), path.Value); err != nil {
			return docsPage{}, err
		}
	}
	for _, item := range spec.Components.Schemas {
		s, err := convert[specSchema](item.Value)
		if err != nil {
			return docsPage{}, err
		}
		schema := docsSchema{Name: fmt.Sprint(item.Key), Description: s.Description, Type: s.words()}
		if schema.Fields, err = s.fields(); err != nil {
			return docsPage{}, err
		}
		d.Schemas = append(d.Schemas, schema)
	}
	return d, nil
}

// convert reads a part of the document that was kept in its order.
func convert[T any](part any) (v T, err error) {
	b, err := yaml.Marshal(part)
	if err == nil {
		err = yaml.Unmarshal(b, &v)
	}
	if err != nil {
		return v, fmt.Errorf("read a part of openapi.yaml: %w", err)
	}
	return v, nil
}

func (d *docsPage) addPath(spec *specJSON, path string, value any) error {
	methods, err := convert[map[string]yaml.MapSlice](withoutParameters(value))
	if err != nil {
		return err
	}
	shared, err := convert[struct{ Parameters []specParameter }](value)
	if err != nil {
		return err
	}
	for _, method := range sorted(methods) {
		op, err := convert[specOperation](methods[method])
		if err != nil {
			return err
		}
		o := docsOperation{
			ID: op.OperationID, Method: strings.ToUpper(method), Path: path, Summary: op.Summary, Description: op.Description, Role: op.Role,
			Body: op.RequestBody.Content.words(),
		}
		for _, p := range slices.Concat(shared.Parameters, op.Parameters) {
			if p.Ref != "" {
				p = spec.Components.Parameters[lastPart(p.Ref)]
			}
			o.Parameters = append(o.Parameters, docsField{Name: p.Name, In: p.In, Description: p.Description, Required: p.Required, Type: p.Schema.words()})
		}
		for _, status := range sorted(op.Responses) {
			r := op.Responses[status]
			if r.Ref != "" {
				r = spec.Components.Responses[lastPart(r.Ref)]
			}
			o.Responses = append(o.Responses, docsResponse{Status: status, Description: r.Description, Body: r.Content.words(), Problems: r.Problems})
		}
		for i := range d.Groups {
			if slices.Contains(op.Tags, d.Groups[i].Name) {
				d.Groups[i].Operations = append(d.Groups[i].Operations, o)
			}
		}
	}
	return nil
}

// withoutParameters leaves the methods of a path.
func withoutParameters(path any) any {
	items, ok := path.(map[string]any)
	if !ok {
		return path
	}
	methods := map[string]any{}
	for key, value := range items {
		if key != "parameters" {
			methods[key] = value
		}
	}
	return methods
}

func lastPart(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// words is the type of a body's first form.
func (c specContent) words() docsType {
	kinds := sorted(c)
	if len(kinds) == 0 {
		return docsType{}
	}
	t := c[kinds[0]].Schema.words()
	if t.Ref == "" {
		t.Text = kinds[0]
	}
	return t
}

// words is a schema in words.
func (s specSchema) words() docsType {
	switch {
	case s.Ref != "":
		return docsType{Ref: lastPart(s.Ref)}
	case len(s.AnyOf) > 0: // a type, or null
		t := s.AnyOf[0].words()
		t.Text = strings.TrimSpace(t.Text + " or null")
		return t
	case len(s.AllOf) > 0:
		return s.AllOf[0].words()
	case s.Items != nil:
		t := s.Items.words()
		t.Text = strings.TrimSpace("list of " + t.Text)
		return t
	case len(s.Enum) > 0:
		return docsType{Text: "one of " + listOf(s.Enum)}
	case s.Const != nil:
		return docsType{Text: fmt.Sprint(s.Const)}
	}
	text := cmp.Or(s.Format, "any")
	switch kinds := s.Type.(type) {
	case string:
		text = cmp.Or(s.Format, kinds)
	case []any:
		text = strings.ReplaceAll(listOf(kinds), ", ", " or ")
		if s.Format != "" {
			text = s.Format + " or null"
		}
	}
	if s.Minimum != nil && s.Maximum != nil {
		text += fmt.Sprintf(", %v to %v", s.Minimum, s.Maximum)
	}
	if s.Default != nil {
		text += fmt.Sprintf(", %v unless given", s.Default)
	}
	return docsType{Text: text}
}

func listOf(values []any) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
		if v == nil {
			texts[i] = "null"
		}
	}
	return strings.Join(texts, ", ")
}

// fields are the members of an object; those of the schemas that it extends are linked to instead.
func (s specSchema) fields() ([]docsField, error) {
	var fields []docsField
	for _, part := range s.AllOf {
		if part.Ref != "" {
			fields = append(fields, docsField{Name: "…", Type: part.words(), Description: "its members, and:"})
			continue
		}
		more, err := part.fields()
		if err != nil {
			return nil, err
		}
		fields = append(fields, more...)
	}
	for _, p := range s.Properties {
		member, err := convert[specSchema](p.Value)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprint(p.Key)
		fields = append(fields, docsField{Name: name, Description: member.Description, Required: slices.Contains(s.Required, name), Type: member.words()})
	}
	return fields, nil
}

var docsOnce = sync.OnceValues(func() (docsPage, error) { return describe(openAPISource) })

// docs shows the specification.
func (p *pages) docs(c *gin.Context) {
	d, err := docsOnce()
	if err != nil {
		p.server.log.ErrorContext(c.Request.Context(), "page failed", "page", "docs", "error", err)
		c.String(http.StatusInternalServerError, "This page could not be made; the server's log says why.")
		return
	}
	d.page = page{Version: p.server.Version}
	p.render(c, http.StatusOK, "docs", d)
}
