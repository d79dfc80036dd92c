package incident

import "regexp"

// PagerDuty's ids are upper-case letters and digits (PABC123, Q2XYZ…, R…). They reach us from the network and go into the
// path of a request unescaped, so nothing else passes.
var idPattern = regexp.MustCompile(`^[A-Z0-9]{6,32}$`)

// ValidID reports whether id has the form of a PagerDuty id and may be put into a path.
func ValidID(id string) bool { return idPattern.MatchString(id) }
