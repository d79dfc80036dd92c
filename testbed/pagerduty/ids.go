package pagerduty

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// newID makes an id as PagerDuty's look: a letter for the kind and capital
// letters and digits, n characters in all (at most 27). Ids are random, not
// counted, so that two runs of the demo against one database never share one.
func newID(prefix string, n int) string {
	return (prefix + rand.Text())[:n]
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails.
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func newHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
