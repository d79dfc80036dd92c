package jenkins

import (
	"encoding/json"
	"testing"
)

func TestTree(t *testing.T) {
	t.Parallel()
	v := object{
		"_class": "job", "name": "armada-ops", "empty": nil,
		"builds": []object{{"number": 3, "result": "SUCCESS"}, {"number": 2, "result": nil}, {"number": 1, "result": "FAILURE"}},
		"last":   object{"number": 3, "url": "u"},
	}
	tests := map[string]string{
		"name":                                `{"_class":"job","name":"armada-ops"}`,
		"empty,nothing":                       `{"_class":"job","empty":null}`,
		"last[number]":                        `{"_class":"job","last":{"number":3}}`,
		"last":                                `{"_class":"job","last":{"number":3,"url":"u"}}`,
		"builds[number]":                      `{"_class":"job","builds":[{"number":3},{"number":2},{"number":1}]}`,
		"builds[number]{1,2}":                 `{"_class":"job","builds":[{"number":2}]}`,
		"builds[number]{,1},name":             `{"_class":"job","builds":[{"number":3}],"name":"armada-ops"}`,
		"builds[nothing]{2}":                  `{"_class":"job","builds":[{}]}`,
		"builds{7,9}":                         `{"_class":"job","builds":[]}`,
		" builds[ number , result ]{0, 1}":    `{"_class":"job","builds":[{"number":3,"result":"SUCCESS"}]}`,
		"*[number]":                           `{"_class":"job","builds":[{"number":3},{"number":2},{"number":1}],"empty":null,"last":{"number":3},"name":"armada-ops"}`,
		"builds{1,1}[number],last[url,class]": `{"_class":"job","builds":[],"last":{"url":"u"}}`,
	}
	for tree, want := range tests {
		sel, err := parseTree(tree)
		if err != nil {
			t.Errorf("%q: %v", tree, err)
			continue
		}
		got, err := json.Marshal(sel.pick(v))
		if err != nil || string(got) != want {
			t.Errorf("%q: %s %v, want %s", tree, got, err, want)
		}
	}
	for _, tree := range []string{"", ",", "a[", "a[b", "a]", "a{", "a{x}", "a{1,-2}", "a[]", "a}b"} {
		if _, err := parseTree(tree); err == nil {
			t.Errorf("%q was accepted", tree)
		}
	}
}

func FuzzTree(f *testing.F) {
	for _, s := range []string{"a", "a[b,c]{0,3}", "*", "a[b[c]],d{1}", "[[[[", "a{9999999999999999999}"} {
		f.Add(s)
	}
	v := object{"a": []object{{"b": 1}, {"b": object{"c": 2}}}, "d": "x"}
	f.Fuzz(func(t *testing.T, s string) {
		sel, err := parseTree(s)
		if err != nil {
			return
		}
		if len(sel) == 0 {
			t.Errorf("%q selects nothing and is no error", s)
		}
		if _, err := json.Marshal(sel.pick(v)); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}
