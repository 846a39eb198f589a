"""Multiplex immunofluorescence whole slides to numbers an oncology team can publish."""
