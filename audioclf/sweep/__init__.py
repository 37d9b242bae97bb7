"""Many runs from one command: what is planned, launched, recorded, and compared at the end."""
