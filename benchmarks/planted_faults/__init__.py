"""Faults planted into real tables, recordings and settings, trained for real: how often is a diagnosis right?"""
