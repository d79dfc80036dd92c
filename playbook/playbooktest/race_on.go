//go:build race

package playbooktest

const raced = true
