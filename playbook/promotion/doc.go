// Package promotion brings back what is not there any more: it asks the version source which version of a component is
// deployed on a carrier, and has Jenkins promote the build of that version to the carrier once more.
//
// Forcing a promotion is the least safe call that Drydock makes. Jenkins' Promoted Builds plugin answers it with a
// redirect that names no attempt, and a second call starts a second promotion, which deploys all of the component again.
// So it is sent once, without any retry. Whether it arrived is only ever read from a newer attempt of that build.
package promotion
