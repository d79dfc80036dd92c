// Package jenkins is a stand-in for Jenkins with the Promoted Builds plugin:
// freestyle jobs in folders, their builds, and promotions of a build by one of
// the job's promotion processes. A process is named after the carrier that it
// deploys to.
//
// What a client of promotions must cope with is here on purpose. Forcing a
// promotion answers with a redirect and names nothing that could be followed;
// forcing it again promotes again; without the right, re-executing and
// approving answer as if all were well; an attempt gets its number only when it
// leaves the queue; attempts are found through the build, newest first.
//
// The attempt itself runs Options.Apply, a function that deploys. Package apply
// has one that applies manifests to a cluster.
package jenkins
