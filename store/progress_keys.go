package store

// The keys of jobs.
//
//	pf:{j:<app>/<lane>/<root>}:p   HASH    done, by, total, retry_at, attempts, n:<result>, duplicates
//	pf:{j:<app>/<lane>/<root>}:s   HASH    recipient's hash -> "m", "r…" or a sequence (progress_part.lua)
//	pf:guard:<app>/<lane>/<id>     STRING  place in JOBS of the message that has the id

func progressKey(k JobKey) string { return "pf:{j:" + k.String() + "}:p" }
func settledKey(k JobKey) string  { return "pf:{j:" + k.String() + "}:s" }
func guardKey(c Claim) string     { return "pf:guard:" + c.App + "/" + c.Lane.String() + "/" + c.ID }
