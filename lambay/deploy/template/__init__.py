"""Templates, purely: text to sections, values, conditions and the graph. No stack, no store, no call is known here.

Line numbers are kept (`Document.line`), so that whoever finds fault can say where.
"""
