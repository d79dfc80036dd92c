package api

import (
	_ "embed"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/goccy/go-yaml"
)

// openAPISource is kept by hand, as YAML for its readers; it is served as JSON.
//
//go:embed openapi.yaml
var openAPISource []byte

// openAPISpec is the document as it is served. The error is a mistake in the embedded file, which a test finds.
func openAPISpec() ([]byte, error) {
	spec, err := yaml.YAMLToJSON(openAPISource)
	if err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	return spec, nil
}

func (s *Server) openAPI(c *gin.Context) error {
	spec, err := openAPISpec()
	if err != nil {
		return err
	}
	c.Data(http.StatusOK, "application/json", spec)
	return nil
}
