"""Networks: plain ``nn.Module`` classes."""
