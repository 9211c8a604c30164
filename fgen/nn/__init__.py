"""Networks, losses and the formulas of the methods, as functions of tensors."""
