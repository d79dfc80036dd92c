package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/drydock/drydock/incident"
	"github.com/drydock/drydock/playbook"
)

// Diagnosis is what "drydock diagnose" and the diagnosis route print. The contract fixes its shape.
type Diagnosis struct {
	Carrier   string             `json:"carrier"`
	Namespace string             `json:"namespace"`
	DaemonSet string             `json:"daemonset"`
	Finding   playbook.Finding   `json:"finding"`
	Confirmed bool               `json:"confirmed"`
	Why       string             `json:"why"`
	Plan      []PlannedAction    `json:"plan"`
	Nodes     []playbook.Verdict `json:"nodes"`
	Readings  []Reading          `json:"readings"`
}

// diagnosisTime bounds a diagnosis, below what the server has for an answer. What was not read by then is unknown.
const diagnosisTime = 45 * time.Second

// PlannedAction is one action of a plan.
type PlannedAction struct {
	Kind   playbook.Kind `json:"kind"`
	Target objectJSON    `json:"target"`
}

// NewDiagnosis shows a diagnosis with what it was made of and what would follow from it.
func NewDiagnosis(t playbook.Target, o playbook.Observation, d playbook.Diagnosis, plan []playbook.Action) Diagnosis {
	j := Diagnosis{
		Carrier: t.Carrier, Namespace: t.Namespace, DaemonSet: t.DaemonSet, Finding: d.Finding, Confirmed: d.Confirmed, Why: d.Why,
		Plan: make([]PlannedAction, 0, len(plan)), Nodes: d.Verdicts, Readings: Readings(o),
	}
	for _, a := range plan {
		ref := a.Target()
		j.Plan = append(j.Plan, PlannedAction{
			Kind: a.Kind(), Target: objectJSON{Kind: ref.Kind, Namespace: ref.Namespace, Name: ref.Name, UID: ref.UID},
		})
	}
	if j.Nodes == nil {
		j.Nodes = []playbook.Verdict{}
	}
	return j
}

// String names a planned action's object for people.
func (a PlannedAction) String() string {
	return string(a.Kind) + " " + playbook.Ref{Kind: a.Target.Kind, Namespace: a.Target.Namespace, Name: a.Target.Name}.String()
}

func (s *Server) carriers(c *gin.Context) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	items := []CarrierStatus{}
	for _, carrier := range s.Carriers.Reach(c.Request.Context()) {
		if tokenOf(c).isFor(carrier.Name) {
			items = append(items, carrier)
		}
	}
	c.JSON(http.StatusOK, gin.H{"items": items, "next_cursor": nil})
	return nil
}

func (s *Server) diagnosis(c *gin.Context) error {
	if err := newQuery(c).err(); err != nil {
		return err
	}
	t := playbook.Target{Carrier: c.Param("carrier"), Namespace: c.Param("namespace"), DaemonSet: c.Param("name")}
	if err := inScope(c, t.Carrier); err != nil {
		return err
	}
	if !s.knows(t.Carrier) {
		return ErrNoCarrier
	}
	var wrong fieldErrors
	if !incident.ValidLabel(t.Namespace) {
		wrong = append(wrong, fieldError{"namespace", "can not be a namespace's name: those have small letters, digits and dashes"})
	}
	if !incident.ValidName(t.DaemonSet) {
		wrong = append(wrong, fieldError{"name", "can not be a DaemonSet's name: those have small letters, digits, dots and dashes"})
	}
	if wrong != nil {
		return wrong
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), diagnosisTime)
	defer cancel()
	d, err := s.Carriers.Diagnose(ctx, t)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, d)
	return nil
}
