// Package kube is the carriers: many Kubernetes clusters, each read and changed through client-go.
//
// It reports facts and makes calls; it decides nothing. Three rules shape it.
//
// An error is never an empty answer. Each reading is known or unknown by itself, and a 404 counts as "it does not
// exist" only when the API server itself said so about that very object: a load balancer's 404 is unknown.
//
// A mutating call is made once. client-go repeats a call by itself when the answer bears Retry-After (one eviction
// was seen to take 100 s that way), so every write here goes out with MaxRetries(0). What is proven not to have
// happened becomes a Settlement; everything else is an error, which means that the outcome is not known.
//
// A mutating call relies on what was seen. Cordons and nudges carry the resourceVersion, evictions the uid, the orphan
// delete both; a create is a plain create, which fails when somebody else was first.
package kube
