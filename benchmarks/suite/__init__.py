"""The benchmarks on the documentation's page, one module a section; each has a TITLE, a TEXT and `rows`."""

SECTIONS = (
    "monitoring",
    "searching",
    "counting_laws",
    "modes_of_training",
    "flow_costs",
    "recording",
    "many_steps",
    "many_processes",
)
