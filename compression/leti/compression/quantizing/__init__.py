"""Networks are stored and computed in fewer bits: references, data-free methods, back ends, training, sensitivities."""
