package incident_test

import (
	"encoding/json"
	"fmt"

	"github.com/drydock/drydock/incident"
)

func ExampleRules_Parse() {
	rules, err := incident.NewRules(incident.RuleConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, title := range []string{
		"#3789453: blumemix.containers-kubernetes.prod-dal12-carrier2.node-exporter_daemonset_absent.us-south",
		"CPU is hot",
	} {
		out, err := json.Marshal(rules.Parse(title))
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(string(out))
	}
	// Output:
	// {"matched":true,"rule":"absent","alert":"absent","carrier":"prod-dal12-carrier2","daemonset":"node-exporter","namespace":"monitoring","region":"us-south"}
	// {"matched":false,"reason":"no rule matches the title"}
}
