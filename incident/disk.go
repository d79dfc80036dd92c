package incident

import "strings"

// IsDiskTitle reports whether title is of a disk-space incident on exactly this carrier. A DaemonSet alert is not one, even
// when the DaemonSet is called "disk-exporter".
func (r *Rules) IsDiskTitle(title, carrier string) bool {
	if !namesCarrier(title, carrier) || r.Parse(title).Matched {
		return false
	}
	for _, re := range r.disk {
		if re.MatchString(title) {
			return true
		}
	}
	return false
}

// DiskIncidents returns those of the given open incidents that are about disk space on exactly this carrier.
func (r *Rules) DiskIncidents(open []Incident, carrier string) []Incident {
	var out []Incident
	for _, in := range open {
		if r.IsDiskTitle(in.Title, carrier) {
			out = append(out, in)
		}
	}
	return out
}

// namesCarrier looks for the carrier as a whole name: prod-dal10-carrier3 stands in neither prod-dal10-carrier33 nor
// stage-prod-dal10-carrier3. The carrier's own hosts (prod-dal10-carrier3-worker-07) are the carrier.
func namesCarrier(title, carrier string) bool {
	title, carrier = lowerASCII(title), lowerASCII(carrier)
	if carrier == "" {
		return false
	}
	for from := 0; ; {
		at := strings.Index(title[from:], carrier)
		if at < 0 {
			return false
		}
		at += from
		rest := title[at+len(carrier):]
		freeBefore := at == 0 || !isNameByte(title[at-1])
		freeAfter := rest == "" || !isNameByte(rest[0]) || strings.HasPrefix(rest, "-master-") || strings.HasPrefix(rest, "-worker-")
		if freeBefore && freeAfter {
			return true
		}
		from = at + 1
	}
}

func isNameByte(c byte) bool {
	return c == '-' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || c >= 0x80
}
