package api

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/playbook"
)

// auditJSON is an entry of the audit log as the API shows it.
type auditJSON struct {
	Seq      int64           `json:"seq"`
	At       time.Time       `json:"at"`
	Who      string          `json:"who"`
	What     string          `json:"what"`
	Why      string          `json:"why"`
	Run      *string         `json:"run"`
	Carrier  *string         `json:"carrier"`
	PlanHash *string         `json:"plan_hash"`
	Before   json.RawMessage `json:"before"`
	After    json.RawMessage `json:"after"`
	PrevHash string          `json:"prev_hash"`
	Hash     string          `json:"hash"`
}

// audit lists the audit log, newest first.
func (s *Server) audit(c *gin.Context) error {
	q := newQuery(c, "run", "carrier", "limit", "cursor")
	f := AuditFilter{Run: q.text("run"), Carrier: q.text("carrier"), Limit: q.limit(), Cursor: q.text("cursor")}
	if err := q.err(); err != nil {
		return err
	}
	var err error
	if f.Carriers, err = narrowed(c, f.Carrier); err != nil {
		return err
	}
	page, err := s.History.Audit(c.Request.Context(), f)
	if err != nil {
		return cursorField(err)
	}
	items := make([]auditJSON, 0, len(page.Entries))
	for _, e := range page.Entries {
		// To the microsecond, as it was hashed.
		items = append(items, auditJSON{
			Seq: e.Seq, At: e.At.UTC(), Who: e.Who, What: e.What, Why: e.Why, Run: orNull(e.Run), Carrier: orNull(e.Carrier),
			PlanHash: orNull(e.PlanHash), Before: e.Before, After: e.After, PrevHash: e.PrevHash, Hash: e.Hash,
		})
	}
	c.JSON(http.StatusOK, gin.H{"items": items, "next_cursor": orNull(page.Next)})
	return nil
}

const (
	statsSpan            = 30 * 24 * time.Hour
	defaultMinutesByHand = 30
	maxMinutesByHand     = 24 * 60
)

type statsJSON struct {
	Since         time.Time          `json:"since"`
	Until         time.Time          `json:"until"`
	Counts        countsJSON         `json:"counts"`
	ByFinding     []findingStatsJSON `json:"by_finding"`
	TimeToRepair  repairTimeJSON     `json:"time_to_repair"`
	HoursSaved    float64            `json:"hours_saved"`
	MinutesByHand int                `json:"minutes_by_hand"`
	Shadow        shadowJSON         `json:"shadow"`
}

type countsJSON struct {
	Runs      int `json:"runs"`
	Active    int `json:"active"`
	Resolved  int `json:"resolved"`
	Escalated int `json:"escalated"`
	StoodDown int `json:"stood_down"`
}

type repairTimeJSON struct {
	Repairs int      `json:"repairs"`
	P50     *float64 `json:"p50_seconds"`
	P95     *float64 `json:"p95_seconds"`
}

type findingStatsJSON struct {
	Finding      playbook.Finding `json:"finding"`
	Counts       countsJSON       `json:"counts"`
	TimeToRepair repairTimeJSON   `json:"time_to_repair"`
}

type shadowJSON struct {
	Total     scoresJSON         `json:"total"`
	ByFinding []findingScoreJSON `json:"by_finding"`
}

type findingScoreJSON struct {
	Finding playbook.Finding `json:"finding"`
	Would   playbook.Would   `json:"would"`
	Scores  scoresJSON       `json:"scores"`
}

type scoresJSON struct {
	Runs          int      `json:"runs"`
	ByPerson      int      `json:"by_person"`
	ByItself      int      `json:"by_itself"`
	Right         int      `json:"right"`
	Wrong         int      `json:"wrong"`
	Undecided     int      `json:"undecided"`
	Precision     *float64 `json:"precision"`
	EndedAfterP50 *float64 `json:"ended_after_p50_seconds"`
}

func newRepairTimeJSON(s playbook.CauseStats) repairTimeJSON {
	j := repairTimeJSON{Repairs: s.Repairs}
	if s.Repairs > 0 {
		p50, p95 := s.P50.Seconds(), s.P95.Seconds()
		j.P50, j.P95 = &p50, &p95
	}
	return j
}

func newScoresJSON(s playbook.Scores) scoresJSON {
	j := scoresJSON{Runs: s.Runs, ByPerson: s.ByPerson, ByItself: s.ByItself, Right: s.Right, Wrong: s.Wrong, Undecided: s.Undecided}
	if share, ok := s.Precision(); ok {
		j.Precision = &share
	}
	if s.ByPerson+s.ByItself > 0 {
		p50 := s.EndedAfterP50.Seconds()
		j.EndedAfterP50 = &p50
	}
	return j
}

// stats counts the runs of a time: 30 days unless asked otherwise.
func (s *Server) stats(c *gin.Context) error {
	q := newQuery(c, "since", "until", "carrier", "minutes_by_hand")
	f := playbook.StatsFilter{Since: q.time("since"), Until: q.time("until")}
	carrier, byHand := q.text("carrier"), q.minutesByHand()
	if f.Until.IsZero() {
		f.Until = s.Now().UTC()
	}
	if f.Since.IsZero() {
		f.Since = f.Until.Add(-statsSpan)
	}
	if f.Until.Before(f.Since) {
		q.add("until", "lies before since")
	}
	if err := q.err(); err != nil {
		return err
	}
	var err error
	if f.Carriers, err = narrowed(c, carrier); err != nil {
		return err
	}
	if carrier != "" {
		f.Carriers = []string{carrier}
	}
	found, err := s.History.RunStats(c.Request.Context(), f)
	if err != nil {
		return err
	}
	total := playbook.ScoreOf(found.Shadows)
	j := statsJSON{
		Since: stamp(f.Since), Until: stamp(f.Until), Counts: countsJSON(found.Total.RunCounts), ByFinding: []findingStatsJSON{},
		TimeToRepair: newRepairTimeJSON(found.Total), MinutesByHand: byHand,
		HoursSaved: float64(found.Total.Resolved) * float64(byHand) / 60,
		Shadow:     shadowJSON{Total: newScoresJSON(total), ByFinding: []findingScoreJSON{}},
	}
	for _, f := range found.ByCause {
		j.ByFinding = append(j.ByFinding, findingStatsJSON{Finding: f.Cause, Counts: countsJSON(f.RunCounts), TimeToRepair: newRepairTimeJSON(f)})
	}
	for _, line := range playbook.Scorecard(found.Shadows) {
		j.Shadow.ByFinding = append(j.Shadow.ByFinding, findingScoreJSON{Finding: line.Cause, Would: line.Would, Scores: newScoresJSON(line.Scores)})
	}
	c.JSON(http.StatusOK, j)
	return nil
}

func (q *query) minutesByHand() int {
	text := q.text("minutes_by_hand")
	if text == "" {
		return defaultMinutesByHand
	}
	return q.number("minutes_by_hand", text, maxMinutesByHand)
}
