package api

// ProblemTypes are the names of all problems that the table has.
func ProblemTypes() []string {
	names := []string{refusedName, internalName}
	for _, entry := range problems {
		names = append(names, entry.name)
	}
	return names
}
