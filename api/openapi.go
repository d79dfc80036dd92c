package api

import (
	_ "embed"
	"net/http"

	"github.com/gin-gonic/gin"
)

// openAPISpec is kept by hand; a test compares its addresses with the routes.
//
//go:embed openapi.json
var openAPISpec []byte

func openAPI(c *gin.Context) { c.Data(http.StatusOK, "application/json", openAPISpec) }
