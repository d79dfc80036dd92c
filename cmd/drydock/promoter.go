package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/drydock/drydock/playbook"
)

// noPromoter stands in where no promotion is configured.
type noPromoter struct{}

func (noPromoter) Promotion(_ context.Context, _, component string) playbook.Reading[playbook.Promotion] {
	return playbook.Unknown[playbook.Promotion](fmt.Sprintf("promotion %q is not configured", component))
}

func (noPromoter) Do(context.Context, playbook.Call) (playbook.Settlement, error) {
	return playbook.Settlement{Result: playbook.Refused, Detail: "no promotion is configured"}, nil
}

func (noPromoter) Recover(context.Context, playbook.Intent) (playbook.Settlement, error) {
	return playbook.Settlement{}, errors.New("no promotion is configured")
}

func newPromoter(*Config, *secrets) (playbook.Promoter, error) { return noPromoter{}, nil }
