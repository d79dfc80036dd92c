package pagerduty

// signal is one event of monitoring, as the Events API takes it.
type signal struct {
	Alert
	Client Client
}

// fire takes a trigger of monitoring: an open alert with the same key absorbs
// it; else a new incident opens, also where the last one was resolved a moment
// ago. A service in maintenance takes it and stays silent, which is a nil
// incident.
func (a *account) fire(s *Service, sig signal) (*incident, Alert) {
	if sig.Key == "" {
		sig.Key = newHex(16)
	}
	if i, n := a.openAlert(s, sig.Key); i != nil {
		i.Alerts[n].Details = sig.Details
		if sig.Severity != "" {
			i.Alerts[n].Severity = sig.Severity
		}
		return i, i.Alerts[n]
	}
	if s.Status != "active" {
		return nil, sig.Alert
	}
	by := act{byMonitoring(s), viaEvents}
	i := a.open(s, sig.Summary, []Alert{sig.Alert}, by, func(i *incident) { i.Client = sig.Client })
	return i, i.Alerts[0]
}

// clearAlert takes a resolve of monitoring: the alert ends, and with the last one the
// incident.
func (a *account) clearAlert(s *Service, key string) {
	i, n := a.openAlert(s, key)
	if i == nil {
		return
	}
	i.Alerts[n].Status, i.Alerts[n].ResolvedAt = Resolved, a.now()
	if i.openAlerts() == 0 {
		a.resolve(i, act{byMonitoring(s), viaEvents}, "")
	}
}

// openAlert finds the open alert with a key in the service's open incidents.
func (a *account) openAlert(s *Service, key string) (*incident, int) {
	for _, i := range a.incidents {
		if i.ServiceID != s.ID || i.Status == Resolved {
			continue
		}
		for n, alert := range i.Alerts {
			if alert.Key == key && alert.Status != Resolved {
				return i, n
			}
		}
	}
	return nil, 0
}
