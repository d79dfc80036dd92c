package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

const defaultConfigFile = "drydock.yaml"

// loadConfig reads the named file, or, when none is named, ./drydock.yaml if there is one, or the built-in
// configuration. Secrets are not resolved. Its errors are usage errors, and one error names all that is wrong.
func loadConfig(named string) (*Config, error) {
	file := named
	if file == "" {
		file = defaultConfigFile
	}
	src, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist) && named == "":
		c := defaultConfig()
		c.complete()
		return &c, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, noSuchConfig(file)
	case err != nil:
		return nil, usagef("read configuration: %v", err)
	}
	return parseConfig(file, src)
}

func noSuchConfig(file string) error {
	return usagef("configuration file %s does not exist: name another with --config or DRYDOCK_CONFIG", file)
}

func parseConfig(file string, src []byte) (*Config, error) {
	c := defaultConfig()
	c.file = file
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, yamlError(file, err)
	}
	shape := &shapeCheck{lines: map[string]int{}, anchors: map[string]ast.Node{}}
	if len(tree.Docs) > 1 {
		return nil, usagef("%s: it holds %d YAML documents: keep one", file, len(tree.Docs))
	}
	empty := len(tree.Docs) == 0 || tree.Docs[0].Body == nil || tree.Docs[0].Body.Type() == ast.NullType ||
		tree.Docs[0].Body.Type() == ast.CommentType
	if !empty {
		ast.Walk(anchorWalk{check: shape}, tree.Docs[0].Body)
		if !shape.undecodable {
			shape.walk("", tree.Docs[0].Body, reflect.TypeFor[Config](), "")
		}
		if !shape.undecodable {
			// Strict only when the walk found nothing: it already named each unknown key, and reports them all at once.
			var options []yaml.DecodeOption
			if len(shape.problems) == 0 {
				options = append(options, yaml.Strict())
			}
			if err := yaml.NodeToValue(tree.Docs[0].Body, &c, options...); err != nil {
				return nil, yamlError(file, err)
			}
		}
	}
	problems := shape.problems
	if !shape.undecodable {
		c.complete()
		problems = append(problems, c.validate()...)
	}
	c.source, c.lines = src, shape.lines
	if len(problems) > 0 {
		return nil, c.refuse(problems...)
	}
	return &c, nil
}

// refuse is a usage error that names each problem's line.
func (c *Config) refuse(problems ...problem) error {
	return &exitError{exitUsage, newConfigError(c.file, c.source, c.lines, problems)}
}

// yamlError is what the YAML library found that the walk did not, in words for people: its own of a wrong type name our Go types.
func yamlError(file string, err error) error {
	var wrong *yaml.TypeError
	if errors.As(err, &wrong) && wrong.Token != nil {
		return usagef("%s:%d: a value here is not of the kind that its key takes", file, wrong.Token.Position.Line)
	}
	return usagef("%s: %s", file, printable(strings.TrimSpace(yaml.FormatError(err, false, true))))
}

// printable escapes what a terminal might obey: a configuration may turn out to be any file.
func printable(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\n', r == '\t', unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		i += size
	}
	return b.String()
}

// problem is one thing that is wrong: where, what, and how to mend it.
type problem struct {
	path   string
	text   string
	line   int  // 0: look it up by path
	secret bool // the line may hold a secret: do not print it
}

// configError holds all problems of a file.
type configError struct {
	file     string
	source   []string
	problems []problem
}

func newConfigError(file string, src []byte, lines map[string]int, problems []problem) *configError {
	for i, p := range problems {
		if p.line == 0 {
			problems[i].line = lineOf(lines, p.path)
		}
	}
	slices.SortStableFunc(problems, func(a, b problem) int {
		return cmp.Or(a.line-b.line, strings.Compare(a.path, b.path))
	})
	return &configError{file: file, source: strings.Split(string(src), "\n"), problems: problems}
}

func (e *configError) Error() string {
	var b strings.Builder
	for i, p := range e.problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		if p.line == 0 {
			fmt.Fprintf(&b, "%s: %s: %s", e.file, p.path, p.text)
			continue
		}
		fmt.Fprintf(&b, "%s:%d: %s: %s", e.file, p.line, p.path, p.text)
		if !p.secret && p.line <= len(e.source) {
			fmt.Fprintf(&b, "\n  %4d | %s", p.line, strings.TrimRight(e.source[p.line-1], "\r"))
		}
	}
	return printable(b.String())
}

// lineOf is the line of the key, or of the nearest key around it that the file has.
func lineOf(lines map[string]int, path string) int {
	for path != "" {
		if line, ok := lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// shapeCheck compares the YAML tree with the configuration's type. The decoder could find the same mistakes, but one at a
// time, in random order, and it prints the line, which for a secret written out it must not.
type shapeCheck struct {
	problems    []problem
	lines       map[string]int
	undecodable bool
	anchors     map[string]ast.Node
}

// anchorWalk collects a file's anchors, for ast.Walk. An alias of what it stands in never ends, and the decoder follows it until it is
// out of memory (found by FuzzParseConfig); by a name that is given twice, the alias of another anchor can be one.
type anchorWalk struct {
	check  *shapeCheck
	inside []string // the anchors around a node
}

func (w anchorWalk) Visit(node ast.Node) ast.Visitor {
	switch n := node.(type) {
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		if _, twice := w.check.anchors[name]; twice {
			w.check.fatal(n, "the configuration", "the anchor &%s is defined twice: give each its own name", name)
		}
		w.check.anchors[name] = n.Value
		return anchorWalk{w.check, append(slices.Clone(w.inside), name)}
	case *ast.AliasNode:
		if name := n.Value.GetToken().Value; slices.Contains(w.inside, name) {
			w.check.fatal(n, "the configuration", "the alias *%s stands in its own anchor: write out what it is to be", name)
		}
	}
	return w
}

// resolve takes anchors and tags off a node and follows aliases.
func (s *shapeCheck) resolve(node ast.Node) ast.Node {
	const most = 100 // aliases of aliases
	for range most {
		switch n := node.(type) {
		case *ast.AnchorNode:
			node = n.Value
		case *ast.TagNode:
			if n.Value == nil {
				return node
			}
			node = n.Value
		case *ast.AliasNode:
			target, ok := s.anchors[n.Value.GetToken().Value]
			if !ok {
				return node
			}
			node = target
		default:
			return node
		}
	}
	return node
}

func (s *shapeCheck) add(node ast.Node, path, format string, args ...any) {
	s.problems = append(s.problems, problem{path: path, text: fmt.Sprintf(format, args...), line: node.GetToken().Position.Line})
}

// fatal adds a problem that the decoder would fail on.
func (s *shapeCheck) fatal(node ast.Node, path, format string, args ...any) {
	s.undecodable = true
	s.add(node, path, format, args...)
}

func (s *shapeCheck) walk(path string, node ast.Node, t reflect.Type, enum string) {
	node = s.resolve(node)
	if _, ok := node.(*ast.AliasNode); ok {
		return // of an anchor that is not there: the decoder says so
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	where := path
	if where == "" {
		where = "the configuration"
	}
	if t == reflect.TypeFor[Secret]() {
		s.walkSecret(path, node)
		return
	}
	if node.Type() == ast.NullType {
		return // "key:" alone keeps the default
	}
	switch {
	case t == reflect.TypeFor[Duration]():
		if text, ok := scalar(node); !ok {
			s.fatal(node, where, "is not a duration: write it like 90s, 15m or 400d")
		} else if _, err := parseDuration(text); err != nil {
			s.fatal(node, where, "%v", err)
		}
	case t.Kind() == reflect.Struct:
		values, ok := mapping(node)
		if !ok {
			s.fatal(node, where, "must be a mapping of keys")
			return
		}
		s.walkStruct(path, values, t)
	case t.Kind() == reflect.Map:
		values, ok := mapping(node)
		if !ok {
			s.fatal(node, where, "must be a mapping of names")
			return
		}
		for _, v := range values {
			if v.Key.IsMergeKey() {
				continue // the decoder checks what is merged into names
			}
			child := join(path, keyOf(v))
			s.seen(child, v)
			s.walk(child, v.Value, t.Elem(), "")
		}
	case t.Kind() == reflect.Slice:
		seq, ok := node.(*ast.SequenceNode)
		if !ok {
			s.fatal(node, where, "must be a list: write [a, b], or one \"- \" per line")
			return
		}
		for i, v := range seq.Values {
			child := fmt.Sprintf("%s[%d]", path, i)
			s.lines[child] = v.GetToken().Position.Line
			s.walk(child, v, t.Elem(), "")
		}
	default:
		s.walkScalar(where, node, t, enum)
	}
}

func (s *shapeCheck) walkStruct(path string, values []*ast.MappingValueNode, t reflect.Type) {
	fields := map[string]reflect.StructField{}
	var names []string
	for field := range t.Fields() {
		if name := field.Tag.Get("yaml"); name != "" {
			fields[name] = field
			names = append(names, name)
		}
	}
	for _, v := range values {
		if v.Key.IsMergeKey() {
			if merged, ok := mapping(s.resolve(v.Value)); ok {
				s.walkStruct(path, merged, t)
			}
			continue
		}
		key := keyOf(v)
		child := join(path, key)
		field, known := fields[key]
		if !known {
			mend := "the keys here are " + strings.Join(names, ", ")
			if near := nearest(key, names); near != "" {
				mend = fmt.Sprintf("did you mean %q?", near)
			}
			s.add(v.Key, child, "unknown key %q: %s", key, mend)
			continue
		}
		s.seen(child, v)
		s.walk(child, v.Value, field.Type, field.Tag.Get("enum"))
	}
}

func (s *shapeCheck) seen(path string, v *ast.MappingValueNode) {
	s.lines[path] = v.Key.GetToken().Position.Line
}

func (s *shapeCheck) walkSecret(path string, node ast.Node) {
	const mend = "write {env: NAME} or {file: PATH}"
	if node.Type() == ast.NullType {
		s.fatal(node, path, "is empty: %s, or leave the key out", mend)
		return
	}
	values, ok := mapping(node)
	if !ok {
		s.problems = append(s.problems, problem{
			path: path, text: "a secret is not written into the configuration: " + mend, line: node.GetToken().Position.Line, secret: true,
		})
		s.undecodable = true
		return
	}
	named := 0
	for _, v := range values {
		key := keyOf(v)
		if key != "env" && key != "file" {
			s.problems = append(s.problems, problem{
				path: join(path, key), text: fmt.Sprintf("unknown key %q: %s", key, mend), line: v.Key.GetToken().Position.Line, secret: true,
			})
			continue
		}
		if text, ok := scalar(s.resolve(v.Value)); !ok || text == "" {
			s.fatal(v.Key, join(path, key), "is empty: %s", mend)
		}
		named++
	}
	if named != 1 {
		s.add(node, path, "needs exactly one of env and file: %s", mend)
	}
}

func (s *shapeCheck) walkScalar(path string, node ast.Node, t reflect.Type, enum string) {
	text, ok := scalar(node)
	if !ok {
		want := "a single value"
		if enum != "" {
			want = "one of " + strings.ReplaceAll(enum, ",", ", ")
		}
		s.fatal(node, path, "must be %s", want)
		return
	}
	switch t.Kind() {
	case reflect.Int:
		if _, isInt := node.(*ast.IntegerNode); !isInt {
			s.fatal(node, path, "%q is not a whole number", text)
		}
	case reflect.Float64:
		switch node.(type) {
		case *ast.IntegerNode, *ast.FloatNode:
		default:
			s.fatal(node, path, "%q is not a number", text)
		}
	case reflect.Bool:
		if _, isBool := node.(*ast.BoolNode); !isBool {
			s.fatal(node, path, "%q is neither true nor false", text)
		}
	default:
		if enum != "" && !slices.Contains(strings.Split(enum, ","), text) {
			s.add(node, path, "%q is not one of %s", text, strings.ReplaceAll(enum, ",", ", "))
		}
	}
}

func mapping(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch node := node.(type) {
	case *ast.MappingNode:
		return node.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}, true
	}
	return nil, false
}

func scalar(node ast.Node) (string, bool) {
	switch node := node.(type) {
	case *ast.StringNode:
		return node.Value, true
	case *ast.LiteralNode:
		return node.Value.Value, true
	case ast.ScalarNode:
		return node.GetToken().Value, true
	}
	return "", false
}

func keyOf(v *ast.MappingValueNode) string { return v.Key.GetToken().Value }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// nearest is the name within an edit or two of key, or empty.
func nearest(key string, names []string) string {
	best, at := "", 3
	for _, name := range names {
		if d := distance(strings.ToLower(key), name); d < at {
			best, at = name, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
