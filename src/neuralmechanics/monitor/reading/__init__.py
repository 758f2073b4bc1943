"""A recorded run as data: tables, errors, exports."""
