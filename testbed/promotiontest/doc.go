// Package promotiontest tests playbook/promotion against the stand-ins for the flag service and for Jenkins.
package promotiontest
