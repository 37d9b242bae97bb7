"""The LightningModule, its metrics and callbacks, and the fitting of one run."""
