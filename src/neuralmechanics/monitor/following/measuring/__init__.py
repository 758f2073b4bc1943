"""What a step did to the charges: drives and momenta as sums over what torch leaves behind."""
