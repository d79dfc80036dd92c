package playbooktest

import "testing"

func TestLedger(t *testing.T) {
	t.Parallel()
	LedgerTest(t, func(*testing.T) LedgerUnderTest { return NewLedger(NewClock()) })
}
