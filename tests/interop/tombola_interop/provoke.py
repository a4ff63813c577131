async def run(*a): return {}
