"""The causes of a low F1 that are looked for: one file each, found by :func:`audioclf.diagnose.probe.all_probes`."""
