"""Why is the F1 low: probes nominate causes, interventions convict them, and what cannot be told is said to be so."""
