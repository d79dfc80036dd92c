package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

//go:generate sh -c "go run . config schema | go run ../../docs/gen/configuration >../../docs/configuration.md"

// configSchema is the JSON Schema of drydock.yaml, read off the tags of Config, so that it can not fall behind.
func configSchema() map[string]any {
	s := schemaOf(reflect.TypeFor[Config](), reflect.ValueOf(defaultConfig()))
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "drydock.yaml"
	return s
}

// schemaOf describes t. Defaults are taken from value where it is valid.
func schemaOf(t reflect.Type, value reflect.Value) map[string]any {
	switch {
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), reflect.Value{})
	case t == reflect.TypeFor[Secret]():
		text := map[string]any{"type": "string", "minLength": 1}
		return map[string]any{
			"type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
			"properties": map[string]any{"env": text, "file": text},
		}
	case t == reflect.TypeFor[Duration]():
		s := map[string]any{"type": "string", "pattern": `^([0-9]+d|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$`}
		if value.IsValid() {
			s["default"] = durationText(time.Duration(value.Int()))
		}
		return s
	}
	switch t.Kind() {
	case reflect.Struct:
		return schemaOfStruct(t, value)
	case reflect.Slice:
		return map[string]any{"type": []string{"array", "null"}, "items": schemaOf(t.Elem(), reflect.Value{})}
	case reflect.Map:
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": schemaOf(t.Elem(), reflect.Value{})}
	case reflect.String:
		return withDefault(map[string]any{"type": "string"}, value)
	case reflect.Int:
		return withDefault(map[string]any{"type": "integer", "minimum": 0}, value)
	case reflect.Float64:
		return withDefault(map[string]any{"type": "number", "minimum": 0}, value)
	case reflect.Bool:
		return withDefault(map[string]any{"type": "boolean"}, value)
	}
	panic(fmt.Sprintf("config schema: no form for %s", t)) // a test generates the schema, so no user meets this
}

func schemaOfStruct(t reflect.Type, value reflect.Value) map[string]any {
	properties := map[string]any{}
	var required []string
	for field := range t.Fields() {
		name := field.Tag.Get("yaml")
		if name == "" {
			continue
		}
		var def reflect.Value
		if value.IsValid() {
			def = value.FieldByIndex(field.Index)
		}
		s := schemaOf(field.Type, def)
		if doc := field.Tag.Get("doc"); doc != "" {
			s["description"] = doc
		}
		if enum := field.Tag.Get("enum"); enum != "" {
			s["enum"] = strings.Split(enum, ",")
		}
		if field.Tag.Get("schema") == "required" {
			required = append(required, name)
		}
		properties[name] = s
	}
	s := map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	if required != nil {
		s["required"] = required
	}
	return s
}

func withDefault(s map[string]any, value reflect.Value) map[string]any {
	if value.IsValid() && !value.IsZero() {
		s["default"] = value.Interface()
	}
	return s
}

// durationText writes a duration as a person would: 2m and not 2m0s, 400d and not 9600h0m0s.
func durationText(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalJSON writes the duration as the file has it.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(durationText(d.std())) }
