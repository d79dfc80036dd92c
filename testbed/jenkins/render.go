package jenkins

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

type object = map[string]any

// shownBuilds is how many builds "builds" lists; "allBuilds" has all.
const shownBuilds = 100

func (s *Server) folderJSON(path string) object {
	prefix := ""
	if path != "" {
		prefix = path + "/"
	}
	jobs := []object{}
	seen := map[string]bool{}
	for _, j := range s.jobs {
		below, ok := strings.CutPrefix(j.path, prefix)
		if !ok {
			continue
		}
		name, _, isFolder := strings.Cut(below, "/")
		if seen[name] {
			continue
		}
		seen[name] = true
		class := "hudson.model.FreeStyleProject"
		if isFolder {
			class = "com.cloudbees.hudson.plugins.folder.Folder"
		}
		jobs = append(jobs, object{"_class": class, "name": name, "url": s.base + jobPath(prefix+name)})
	}
	o := object{"_class": "hudson.model.Hudson", "jobs": jobs}
	if path != "" {
		o["_class"], o["name"], o["fullName"], o["url"] = "com.cloudbees.hudson.plugins.folder.Folder", lastName(path), path, s.base+jobPath(path)
	}
	return o
}

func lastName(path string) string { return path[strings.LastIndex(path, "/")+1:] }

// jobJSON is a job. Only a tree can look into its builds; without one they are
// numbers and addresses.
func (s *Server) jobJSON(j *job, deep bool) object {
	all := []object{}
	for _, b := range slices.Backward(j.builds) {
		if deep {
			all = append(all, s.buildJSON(j, b))
		} else {
			all = append(all, s.buildRef(j, b))
		}
	}
	o := object{
		"_class": "hudson.model.FreeStyleProject", "name": lastName(j.path), "fullName": j.path, "displayName": lastName(j.path),
		"url": s.base + jobPath(j.path), "buildable": true, "builds": all[:min(len(all), shownBuilds)], "nextBuildNumber": 1,
		"inQueue": false, "property": []object{{"_class": "hudson.plugins.promoted_builds.JobPropertyImpl"}},
	}
	if deep {
		o["allBuilds"] = all
	}
	if n := len(j.builds); n > 0 {
		o["nextBuildNumber"] = j.builds[n-1].Number + 1
	}
	for _, name := range []string{"lastBuild", "lastCompletedBuild", "lastSuccessfulBuild", "lastFailedBuild"} {
		o[name] = nil
		if b := j.find(name); b != nil {
			o[name] = s.buildRef(j, b)
		}
	}
	return o
}

func (s *Server) buildRef(j *job, b *build) object {
	return object{"_class": "hudson.model.FreeStyleBuild", "number": b.Number, "url": s.base + buildPath(j, b)}
}

// buildJSON is a build. Its promotions hang on one of its actions, which is
// missing until the first promotion.
func (s *Server) buildJSON(j *job, b *build) object {
	actions := []object{{"_class": "hudson.model.CauseAction", "causes": []object{{"_class": "hudson.triggers.SCMTrigger$SCMTriggerCause", "shortDescription": "Started by an SCM change"}}}}
	if len(b.Parameters) > 0 {
		list := []object{}
		for _, name := range slices.Sorted(maps.Keys(b.Parameters)) {
			list = append(list, object{"_class": "hudson.model.StringParameterValue", "name": name, "value": b.Parameters[name]})
		}
		actions = append(actions, object{"_class": "hudson.model.ParametersAction", "parameters": list})
	}
	actions = append(actions, object{})
	if len(b.promotions) > 0 {
		list := []object{}
		for _, pr := range b.promotions {
			attempts := []object{}
			for _, a := range slices.Backward(pr.attempts) { // Newest first.
				attempts = append(attempts, s.attemptJSON(j, b, a))
			}
			list = append(list, object{"name": pr.process.Name, "promotionBuilds": attempts})
		}
		actions = append(actions, object{"_class": "hudson.plugins.promoted_builds.PromotedBuildAction", "promotions": list})
	}
	o := s.buildRef(j, b)
	o["actions"], o["displayName"], o["fullDisplayName"] = actions, b.DisplayName, strings.ReplaceAll(j.path, "/", " » ")+" "+b.DisplayName
	o["description"], o["result"], o["building"] = orNil(b.Description), b.Result, false
	o["id"], o["timestamp"], o["duration"], o["keepLog"] = fmt.Sprint(b.Number), b.StartedAt.UnixMilli(), 60_000, false
	return o
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (s *Server) attemptJSON(j *job, b *build, a *Attempt) object {
	return object{
		"_class": "hudson.plugins.promoted_builds.Promotion", "number": a.Number, "id": fmt.Sprint(a.Number),
		"building": a.Result == "", "result": orNil(a.Result), "timestamp": a.StartedAt.UnixMilli(), "duration": a.duration().Milliseconds(),
		"url":             fmt.Sprintf("%s%d/", s.processURL(j, a.Process), a.Number),
		"displayName":     fmt.Sprintf("#%d", a.Number),
		"fullDisplayName": fmt.Sprintf("%s » %s #%d", strings.ReplaceAll(j.path, "/", " » "), a.Process, a.Number),
		"actions":         []object{{"_class": "hudson.model.CauseAction", "causes": []object{{"_class": "hudson.model.Cause$UserIdCause", "shortDescription": "Started by user " + a.By, "userId": a.By}}}},
		"target":          s.buildRef(j, b),
	}
}

func (s *Server) processURL(j *job, name string) string {
	return s.base + jobPath(j.path) + "promotion/process/" + url.PathEscape(name) + "/"
}

func (s *Server) processesJSON(j *job) object {
	list := []object{}
	for _, p := range j.processes {
		list = append(list, object{"_class": "hudson.plugins.promoted_builds.PromotionProcess", "name": p.Name, "url": s.processURL(j, p.Name)})
	}
	return object{"_class": "hudson.plugins.promoted_builds.JobPropertyImpl", "processes": list}
}

func (s *Server) processJSON(j *job, p *process) object {
	attempts := []object{}
	for _, b := range j.builds {
		if pr := b.of(p); pr != nil {
			for _, a := range pr.attempts {
				attempts = append(attempts, s.attemptJSON(j, b, a))
			}
		}
	}
	slices.SortFunc(attempts, func(a, b object) int { return number(b) - number(a) })
	waiting := slices.ContainsFunc(s.attempts, func(a *Attempt) bool { return a.Job == j.path && a.Process == p.Name && a.Number == 0 })
	return object{
		"_class": "hudson.plugins.promoted_builds.PromotionProcess", "name": p.Name, "url": s.processURL(j, p.Name),
		"builds": attempts, "inQueue": waiting, "nextBuildNumber": p.last + 1,
	}
}

func number(o object) int {
	n, _ := o["number"].(int)
	return n
}
