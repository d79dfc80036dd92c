// Package kubetest tests playbook/kube on a real control plane: the rules that a fake client does not have, such as
// preconditions, budgets, finalizers, the garbage collector and the scheduler.
package kubetest
