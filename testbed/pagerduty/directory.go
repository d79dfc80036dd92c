package pagerduty

import (
	"net/http"
	"strings"
)

// Users, services, escalation policies and priorities.

func (s *Server) listUsers(c *call) (int, any, *Error) {
	q := strings.ToLower(c.query.Get("query"))
	var found []*User
	for _, u := range s.acct.users {
		if strings.Contains(strings.ToLower(u.Name+" "+u.Email), q) {
			found = append(found, u)
		}
	}
	answer, rows, err := page(c, "users", found)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, u := range rows {
		list = append(list, s.acct.userJSON(u.ID, true))
	}
	answer["users"] = list
	return http.StatusOK, answer, nil
}

// currentUser exists only for keys that are a user's.
func (s *Server) currentUser(c *call) (int, any, *Error) {
	if c.key.Kind != UserKey {
		return 0, nil, invalid("This endpoint requires a user's own token")
	}
	return http.StatusOK, object{"user": s.acct.userJSON(c.key.UserID, true)}, nil
}

func (s *Server) getUser(c *call) (int, any, *Error) {
	id := c.PathValue("id")
	if s.acct.user(id) == nil {
		return 0, nil, notFound()
	}
	return http.StatusOK, object{"user": s.acct.userJSON(id, true)}, nil
}

func (s *Server) listServices(c *call) (int, any, *Error) {
	q := strings.ToLower(c.query.Get("query"))
	var found []*Service
	for _, svc := range s.acct.services {
		if strings.Contains(strings.ToLower(svc.Name), q) {
			found = append(found, svc)
		}
	}
	answer, rows, err := page(c, "services", found)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, svc := range rows {
		list = append(list, s.acct.serviceJSON(svc.ID, true))
	}
	answer["services"] = list
	return http.StatusOK, answer, nil
}

func (s *Server) getService(c *call) (int, any, *Error) {
	id := c.PathValue("id")
	if s.acct.service(id) == nil {
		return 0, nil, notFound()
	}
	return http.StatusOK, object{"service": s.acct.serviceJSON(id, true)}, nil
}

func (s *Server) listPolicies(c *call) (int, any, *Error) {
	answer, rows, err := page(c, "escalation_policies", s.acct.policies)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, p := range rows {
		list = append(list, s.acct.policyJSON(p.ID, true))
	}
	answer["escalation_policies"] = list
	return http.StatusOK, answer, nil
}

func (s *Server) getPolicy(c *call) (int, any, *Error) {
	id := c.PathValue("id")
	if s.acct.policy(id) == nil {
		return 0, nil, notFound()
	}
	return http.StatusOK, object{"escalation_policy": s.acct.policyJSON(id, true)}, nil
}

func (s *Server) listPriorities(c *call) (int, any, *Error) {
	answer, rows, err := page(c, "priorities", priorities)
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, name := range rows {
		list = append(list, object{"id": priorityID(name), "type": "priority", "name": name, "summary": name, "description": ""})
	}
	answer["priorities"] = list
	return http.StatusOK, answer, nil
}
