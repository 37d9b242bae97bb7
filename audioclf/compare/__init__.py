"""Many runs side by side: what is better, by how much, and whether that is more than noise."""
