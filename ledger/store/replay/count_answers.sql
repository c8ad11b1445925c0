-- How many events of each batch repeat the version that stands, and how many contradict it.
select place >> 16, answer, count(*) from answer where answer <> 'missing' group by all
