import torch

from fairveil.data.synthetic.heads import Conditions, Head, Traits, from_deviates, numbers


def some_heads(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    traits, conditions = (
        from_deviates(kind, torch.randn(count, numbers(kind), generator=generator).clamp(-2, 2))
        for kind in (Traits, Conditions)
    )
    return Head(traits, conditions)


def some_rays(head, side=24):
    axis = torch.linspace(-1.6, 1.6, side)
    count = len(head.rotation)
    return axis.expand(count, side, side), axis[:, None].expand(count, side, side), torch.full((count, 1, 1), 0.02)


def first_meetings(head, right, down, depths=1500):
    """The literal way: every ray looks at very many depths and takes the first inside the head."""
    rotation = head.rotation
    met = torch.full_like(right, torch.nan)
    for depth in torch.linspace(1.75, -0.65, depths):
        points = torch.einsum("bjk,bjhw->bkhw", rotation, torch.stack([right, down, torch.full_like(right, depth)], 1))
        inside = head._outside(points) <= 0
        met = torch.where(met.isnan() & inside, head._places(points)[0], met)
    return met


def test_rays_meet_the_surface_where_a_dense_search_finds_it():
    head = some_heads()
    right, down, pixel = some_rays(head)
    hits, expected = head.meet(right, down, pixel), first_meetings(head, right, down)
    clear = (hits.cover > 0.999) & ~expected.isnan()
    assert clear.float().mean() > 0.3
    off = (hits.theta - expected)[clear].abs()
    assert (off < 0.02).float().mean() > 0.98  # the others graze the edge of a nose or an ear


def test_a_pixel_is_covered_where_its_ray_meets_the_head():
    head = some_heads(seed=1)
    right, down, pixel = some_rays(head)
    cover, met = head.meet(right, down, pixel).cover, ~first_meetings(head, right, down).isnan()
    assert (((cover > 0.5) == met).float().mean()) > 0.99


def test_a_projected_place_is_met_by_the_ray_through_it():
    head = some_heads(seed=2)
    x, y = torch.tensor([[-0.4, 0.4, 0.0, 0.2]]).expand(6, -1), torch.tensor([[0.1, 0.1, 0.3, 0.9]]).expand(6, -1)
    seen = head.project(x, y)
    hits = head.meet(seen[:, None, :, 0], seen[:, None, :, 1], torch.full((6, 1, 1), 0.02))
    close = (hits.x[:, 0] - x).abs().maximum((hits.y[:, 0] - y).abs()) < 0.03
    assert close.float().mean() > 0.9  # a turned nose may hide a place


def test_normals_agree_with_the_slope_of_the_surface_met():
    head = some_heads(count=1, seed=3)
    step, side = 1e-3, 20
    axis = torch.linspace(-0.6, 0.6, side)
    right, down = axis.expand(1, side, side), axis[:, None].expand(1, side, side)
    pixel = torch.full((1, 1, 1), 0.02)
    hits = head.meet(right, down, pixel)

    def normal_of_field(theta, q):
        """The gradient of how far outside a point is, by differences, in coordinates of the viewer."""
        points = head._points(theta, q, head._look_up(theta, q, slice(0, 1))[:, 0])
        slopes = [
            (head._outside(points + step * unit) - head._outside(points - step * unit)) / (2 * step)
            for unit in torch.eye(3)[:, None, :, None, None]
        ]
        slope = torch.stack(slopes, 1)
        return torch.einsum("bjk,bkhw->bjhw", head.rotation, slope / slope.norm(dim=1, keepdim=True))

    expected = normal_of_field(hits.theta, hits.y / 1.42)
    cosine = (expected * hits.normal).sum(1)
    assert cosine.median() > 0.99 and cosine.mean() > 0.97
    assert torch.allclose(hits.normal.norm(dim=1), torch.ones(1, side, side), atol=1e-4)


def test_turning_the_head_moves_the_nose_to_that_side_and_nodding_moves_it_down():
    count = numbers(Conditions)
    conditions = from_deviates(Conditions, torch.zeros(3, count))
    turned = Conditions(
        **{**vars(conditions), "yaw": torch.tensor([0.0, 0.4, 0.0]), "pitch": torch.tensor([0, 0, 0.3])}
    )
    head = Head(from_deviates(Traits, torch.zeros(3, numbers(Traits))), turned)
    straight, right, nodding = head.project(torch.zeros(3, 1), torch.full((3, 1), 0.45))[:, 0]
    assert right[0] > straight[0] + 0.3 and abs(straight[0]) < 1e-5
    assert nodding[1] > straight[1] + 0.2
