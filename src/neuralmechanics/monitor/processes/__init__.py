"""One training in several processes: what each holds of the parameters, and how their sums become one record."""
