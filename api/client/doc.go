// Package client is a Go client of Drydock's HTTP interface, generated from api/openapi.yaml. The command line uses it.
//
//	c, err := client.NewClientWithResponses("https://drydock.example.com", client.WithRequestEditorFn(bearer))
//	page, err := c.ListRunsWithResponse(ctx, &client.ListRunsParams{Carrier: &carrier})
//
// StreamRun returns the open answer of the server-sent events; the caller reads its body and closes it.
package client

//go:generate go tool -modfile=../../tools/go.mod oapi-codegen -config config.yaml ../openapi.yaml
