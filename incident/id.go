package incident

import "regexp"

// PagerDuty's ids are upper-case letters and digits today (PABC123, Q2XYZ…, R…); their form is not documented, so it is not
// assumed. They reach us from the network and go into the path of a request unescaped: nothing passes that could leave it.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// ValidID reports whether id has the form of a PagerDuty id and may be put into a path.
func ValidID(id string) bool { return idPattern.MatchString(id) }
