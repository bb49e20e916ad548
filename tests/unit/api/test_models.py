

def test_a_generation_comes_back_from_its_own_dump_with_its_times():
    generation = Generation.model_validate({"id": "a", "status": "completed", "created_at": 1775383908})

    again = Generation.model_validate(generation.model_dump())

    assert again == generation
    assert again.created_at is not None
